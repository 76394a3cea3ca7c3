"""The view of a run: a row a stage, the steps that are done, the table. It knows no record."""
