"""Reports that people read: drift checks and validations, as HTML pages and JSON."""
