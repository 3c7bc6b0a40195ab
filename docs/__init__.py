"""The documentation: its pages, and the code that makes the generated ones."""
