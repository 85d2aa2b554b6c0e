"""Answer a checklist before a deployment: settings, servers, and a look from outside."""
