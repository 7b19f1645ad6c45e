"""What stands before the routes: who calls, by which name, from which page, and what every answer says."""
