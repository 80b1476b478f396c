"""Tables, figures and the report: everything here is a function of tables and pictures."""
