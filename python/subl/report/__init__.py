"""The report: one self-contained HTML page about one run, or about several beside each other.

`render` turns a `ReportDocument` into the page. It needs no network, no script and no file beside
it, and carries the document itself, as JSON, in the element `#subl-document`.
"""

from subl.report.beside import beside
from subl.report.document import ReportDocument
from subl.report.page import render

__all__ = ["ReportDocument", "beside", "render"]
