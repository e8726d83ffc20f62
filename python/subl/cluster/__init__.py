"""Processes on machines. Here: ranks on this one."""
