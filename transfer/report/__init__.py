"""The report: tables, figures and pictures of many runs beside the published numbers."""
