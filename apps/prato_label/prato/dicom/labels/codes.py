"""The codes of standards (SNOMED CT, LOINC, DICOM, UCUM) in what is exported; a test compares them with pydicom's dictionary."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.sr.coding import Code

#: By structure. There is no code for the cavity of a ventricle alone: the ventricle stands for it, and the segment's label says so.
STRUCTURE_CODES: Mapping[str, Code] = {
    "RV cavity": Code("53085002", "SCT", "Right ventricle"),
    "myocardium": Code("49848007", "SCT", "Left Ventricle Myocardium"),
    "LV cavity": Code("87878005", "SCT", "Left Ventricle"),
}
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
#: There is none among DICOM's codes for an older version of a segmentation: that of a replaced report says what is meant.
REPLACED = Code("121360", "DCM", "Replaced report")

DEVICE = Code("121007", "DCM", "Device")
MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
COMMENT = Code("121106", "DCM", "Comment")
CARDIAC_MRI = Code("241620005", "SCT", "Cardiac MRI")
VOLUME = Code("118565006", "SCT", "Volume")
STROKE_VOLUME = Code("90096001", "SCT", "Stroke Volume")
LV_MASS = Code("18087-7", "LN", "Left Ventricle Mass")
#: By ventricle.
END_DIASTOLIC: Mapping[str, Code] = {
    "lv": Code("8821-1", "LN", "Left Ventricular ED Volume"),
    "rv": Code("8822-9", "LN", "Right Ventricular ED Volume"),
}
END_SYSTOLIC: Mapping[str, Code] = {
    "lv": Code("8823-7", "LN", "Left Ventricular ES Volume"),
    "rv": Code("8824-5", "LN", "Right Ventricular ES Volume"),
}
EJECTION_FRACTION: Mapping[str, Code] = {
    "lv": Code("8811-2", "LN", "Left ventricular ejection fraction by MR"),
    "rv": Code("8818-7", "LN", "Right ventricular ejection fraction by MR"),
}
PERCENT, MILLILITRE, GRAM = Code("%", "UCUM", "Percent"), Code("mL", "UCUM", "milliliter"), Code("g", "UCUM", "gram")
