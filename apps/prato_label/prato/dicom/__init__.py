"""Short-axis cines out of DICOM: find the files, read their headers, sort them into stacks, choose, and write NIfTI with a sidecar."""
