"""From kernel groups to tile programs: one strategy per kind of kernel."""
