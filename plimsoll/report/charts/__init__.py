"""The figures of the page as plain Plotly specifications; colours are names that the page turns into those of its theme."""
