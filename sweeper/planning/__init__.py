"""Before a GPU-hour is spent: what each cell of a sweep needs, and what the whole of it will cost."""
