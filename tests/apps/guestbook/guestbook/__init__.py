"""A guest book: an app that is no Django project and shares no name with one."""
