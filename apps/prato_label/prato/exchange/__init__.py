"""Other people's folders: data sets of nnU-Net, M&Ms, M&Ms-2 and UK Biobank, NRRD and MetaImage files, in and out, bit for bit.

ACDC's own folder is only read (``acdc``).
"""
