"""A file an agent: settings to ports to worker; imported on demand, so that no worker pays for another's libraries."""
