"""What a user touches and brings: the command line, ``compile`` and the importers."""
