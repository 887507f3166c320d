"""DICOM files and what is in them: found in a folder or an archive, their headers read one record per image, their pixels decoded."""
