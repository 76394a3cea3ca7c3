"""The measures of a frozen encoder: k nearest neighbours and the linear probe."""
