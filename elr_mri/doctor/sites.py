"""Where the studies' sites offer what a reader looks for, and what is lost without it; the words of `config/README.md`."""

from __future__ import annotations

#: Study -> what is wanted -> where on its site it is to be had.
ADNI = {
    "images": "ida.loni.usc.edu > Search & Download > Advanced Image Search: MRI, T1 (for ADNI 1/GO/2 the processed "
    "'Scaled' or 'N3m' ones)",
    "ADNIMERGE": "ida.loni.usc.edu > Search & Download > Study Files > Study Info > Data & Database",
    "DXSUM": "ida.loni.usc.edu > Search & Download > Study Files > Assessments > Diagnosis",
    "PTDEMOG": "ida.loni.usc.edu > Search & Download > Study Files > Subject Characteristics > Subject Demographics",
    "CDR": "ida.loni.usc.edu > Search & Download > Study Files (search for CDR)",
    "DELMRSCANS": "ida.loni.usc.edu > Search & Download > Study Files (search for DELMRSCANS)",
    "image list": "ida.loni.usc.edu > Search & Download > Image Collections > your collection > CSV",
}
NACC = {
    "images": "naccdata.org > Requesting data > Submit a data request (tick MRI): the links to the zips come with the data",
    "UDS": "naccdata.org > Requesting data > Submit a data request: the Quick Access file of the UDS",
    "MRI": "naccdata.org > Requesting data > Submit a data request (tick MRI): the table that comes with the images",
    "SCAN volumes": "naccdata.org > Requesting data > Submit a data request (tick SCAN MRI)",
    "SCAN series": "naccdata.org > Requesting data > Submit a data request (tick SCAN MRI)",
}

#: Table -> what is lost where it is not there, for those that a study can do without.
WITHOUT_TABLE = {
    "ADNIMERGE": "sex, MMSE, APOE4 and volumes unknown, ages only from the image list",
    "DXSUM": "blank diagnoses stay blank, and no second table checks them",
    "PTDEMOG": "subjects that ADNIMERGE does not hold (ADNI4) have age and sex from the image list only",
    "CDR": "global CDR unknown",
    "DELMRSCANS": "withdrawn scans cannot be told and are kept",
    "image list": "dates come from folder names; manufacturer unknown",
    "sessions": "every session has the participant's diagnosis and age",
}

#: Tables whose want is worth a second look, and columns (our names): scans may be lost, or a choice may be another.
GRAVE_TABLES = ("ADNIMERGE", "DXSUM", "image list")
GRAVE_COLUMNS = ("age", "baseline", "date", "dx", "diagnosis", "naccage", "naccalzp", "naccetpr")

#: Our name of a column -> what is lost where the table has none.
WITHOUT_COLUMN = {
    "ptid": "subjects of visits are known by RID only",
    "baseline": "baseline day only from the visit 'bl'",
    "age": "no age at the scan, which excludes it, unless another table tells",
    "sex": "sex unknown: splits not stratified by it",
    "dx": "diagnoses from DXSUM only",
    "diagnosis": "no diagnosis, which excludes a scan",
    "phase": "which T1 of a visit is kept follows the rule of ADNI2",
    "site": "site unknown",
    "mmse": "MMSE unknown",
    "apoe4": "APOE4 unknown",
    "field": "field strength unknown from this table",
    "hippocampus": "the study's own hippocampal volume unknown",
    "entorhinal": "the study's own entorhinal volume unknown",
    "icv": "the study's own intracranial volume unknown",
    "code": "visits matched by date only",
    "raw": "no fallback for a blank VISCODE2",
    "date": "visits without a day stand at their nominal month",
    "cdr": "global CDR unknown",
    "description": "sequence from folder names only",
    "protocol": "manufacturer unknown",
    "naccadc": "site unknown",
    "naccage": "age at the scan from the MRI table (whole years)",
    "naccalzd": "nacc_ad: any cannot see contributing Alzheimer's disease",
    "naccalzp": "AD only where NACCETPR says so",
    "naccetpr": "AD only where NACCALZP says so",
    "cdrglob": "global CDR unknown",
    "naccmmse": "MMSE unknown",
    "naccne4s": "APOE4 unknown",
    "naccmria": "no age where the UDS has none",
    "mrifield": "field strength unknown",
    "mrimanu": "manufacturer unknown",
    "hippovol": "the study's own hippocampal volume unknown",
    "lent": "the study's own entorhinal volume unknown",
    "rent": "the study's own entorhinal volume unknown",
    "naccicv": "the study's own intracranial volume unknown",
    "session": "sessions told apart by age",
    "months": "months from session labels, or else from ages",
    "image_uid": "no image ids",
}
