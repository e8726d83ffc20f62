"""Look at where data and models come from, for filtering alone cannot be trusted."""
