"""The report: tables, figures and pictures of many runs beside the published numbers."""

# The files of a report by which others know it; page.py writes them, and takes seconds to import.
PAGE, MARKDOWN, NUMBERS = "index.html", "report.md", "report.json"
