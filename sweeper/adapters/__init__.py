"""One foreign library each; its errors are translated here."""
