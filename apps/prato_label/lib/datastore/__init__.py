"""The studies folder as MONAI Label's datastore: its images, its labels with their versions, and the list of both."""
