"""Import rules, one function per ATen operator; see ``registry`` for their contract."""
