"""Tables: from download folders to one validated scan table, splits and demographics."""
