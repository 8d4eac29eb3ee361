"""Pictures, videos and pages for people to look at."""
