"""Short-axis cines out of DICOM, and labels back into it.

``importer`` finds the files and reads them (``reading``), sorts their images (``cines``), and writes NIfTI with a sidecar (``origin``), by
which ``labels`` refer to the images that they were drawn on.
"""
