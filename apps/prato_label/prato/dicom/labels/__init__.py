"""Labels as DICOM: SEG and reports that are written, and SEG and contours of other programs that are read."""
