//! Codes in use, with what belongs to them: SNOMED CT, ICD-10, LOINC, RxNorm.

use super::dice::Dice;

/// An illness: its codes, and what is measured and given for it.
#[derive(Debug)]
pub(crate) struct Ailment {
    pub(crate) snomed: &'static str,
    pub(crate) icd10: &'static str,
    pub(crate) display: &'static str,
    /// Stays once it is there.
    pub(crate) chronic: bool,
    /// The youngest age at which it is drawn.
    pub(crate) from_age: i64,
    pub(crate) tests: &'static [Test],
    pub(crate) drugs: &'static [Drug],
}

/// A laboratory test or a measurement with a number as its result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) loinc: &'static str,
    pub(crate) display: &'static str,
    pub(crate) unit: &'static str,
    /// Lowest and highest result drawn, and the normal range, in units of the last digit.
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) normal: (i64, i64),
    /// Digits after the point.
    pub(crate) digits: u32,
}

/// A drug with its usual dose.
#[derive(Debug)]
pub(crate) struct Drug {
    pub(crate) rxnorm: &'static str,
    pub(crate) display: &'static str,
    pub(crate) dose: &'static str,
    pub(crate) per_day: i64,
}

const fn test(
    loinc: &'static str,
    display: &'static str,
    unit: &'static str,
    range: (i64, i64),
    normal: (i64, i64),
    digits: u32,
) -> Test {
    Test {
        loinc,
        display,
        unit,
        low: range.0,
        high: range.1,
        normal,
        digits,
    }
}

const fn drug(rxnorm: &'static str, display: &'static str, dose: &'static str, per_day: i64) -> Drug {
    Drug {
        rxnorm,
        display,
        dose,
        per_day,
    }
}

const HBA1C: Test = test(
    "4548-4",
    "Hemoglobin A1c/Hemoglobin.total in Blood",
    "%",
    (45, 140),
    (40, 56),
    1,
);
const GLUCOSE: Test = test(
    "2339-0",
    "Glucose [Mass/volume] in Blood",
    "mg/dL",
    (600, 3200),
    (700, 1000),
    1,
);
const CREATININE: Test = test(
    "2160-0",
    "Creatinine [Mass/volume] in Serum or Plasma",
    "mg/dL",
    (50, 480),
    (60, 120),
    2,
);
const EGFR: Test = test(
    "33914-3",
    "Glomerular filtration rate/1.73 sq M.predicted",
    "mL/min/{1.73_m2}",
    (80, 1300),
    (900, 1300),
    1,
);
const POTASSIUM: Test = test(
    "2823-3",
    "Potassium [Moles/volume] in Serum or Plasma",
    "mmol/L",
    (280, 620),
    (350, 510),
    2,
);
const SODIUM: Test = test(
    "2951-2",
    "Sodium [Moles/volume] in Serum or Plasma",
    "mmol/L",
    (125, 152),
    (136, 145),
    0,
);
const CHOLESTEROL: Test = test(
    "2093-3",
    "Cholesterol [Mass/volume] in Serum or Plasma",
    "mg/dL",
    (1200, 3300),
    (1200, 2000),
    1,
);
const LDL: Test = test(
    "13457-7",
    "Cholesterol in LDL [Mass/volume] by calculation",
    "mg/dL",
    (500, 2400),
    (500, 1300),
    1,
);
const HEMOGLOBIN: Test = test(
    "718-7",
    "Hemoglobin [Mass/volume] in Blood",
    "g/dL",
    (70, 185),
    (120, 175),
    1,
);
const LEUKOCYTES: Test = test(
    "6690-2",
    "Leukocytes [#/volume] in Blood by Automated count",
    "10*3/uL",
    (150, 2400),
    (400, 1100),
    2,
);
const CRP: Test = test(
    "1988-5",
    "C reactive protein [Mass/volume] in Serum or Plasma",
    "mg/L",
    (0, 30000),
    (0, 500),
    2,
);
const TSH: Test = test(
    "3016-3",
    "Thyrotropin [Units/volume] in Serum or Plasma",
    "m[IU]/L",
    (5, 15000),
    (400, 4000),
    3,
);
const FEV1: Test = test("19926-5", "FEV1/FVC", "%", (400, 950), (700, 950), 1);
const TROPONIN: Test = test(
    "6598-7",
    "Troponin T.cardiac [Mass/volume] in Serum or Plasma",
    "ug/L",
    (3, 2400),
    (0, 14),
    3,
);
const VIRAL_LOAD: Test = test(
    "25836-8",
    "HIV 1 RNA [#/volume] in Specimen by NAA",
    "{copies}/mL",
    (20, 990_000),
    (0, 20),
    0,
);

/// What patients of this hospital have, the frequent first.
pub(crate) const AILMENTS: &[Ailment] = &[
    Ailment {
        snomed: "59621000",
        icd10: "I10",
        display: "Essential hypertension",
        chronic: true,
        from_age: 25,
        tests: &[CREATININE, POTASSIUM, SODIUM],
        drugs: &[
            drug("314076", "lisinopril 10 MG Oral Tablet", "10 mg", 1),
            drug("197361", "amlodipine 5 MG Oral Tablet", "5 mg", 1),
            drug("310798", "hydrochlorothiazide 25 MG Oral Tablet", "25 mg", 1),
        ],
    },
    Ailment {
        snomed: "44054006",
        icd10: "E11.9",
        display: "Diabetes mellitus type 2",
        chronic: true,
        from_age: 30,
        tests: &[HBA1C, GLUCOSE, CREATININE, EGFR],
        drugs: &[
            drug(
                "861007",
                "metformin hydrochloride 500 MG Oral Tablet",
                "500 mg",
                2,
            ),
            drug(
                "106892",
                "insulin isophane, human 70 UNT/ML / insulin, regular, human 30 UNT/ML",
                "12 IU",
                2,
            ),
        ],
    },
    Ailment {
        snomed: "55822004",
        icd10: "E78.5",
        display: "Hyperlipidemia",
        chronic: true,
        from_age: 25,
        tests: &[CHOLESTEROL, LDL],
        drugs: &[drug("312961", "simvastatin 20 MG Oral Tablet", "20 mg", 1)],
    },
    Ailment {
        snomed: "195662009",
        icd10: "J02.9",
        display: "Acute viral pharyngitis",
        chronic: false,
        from_age: 2,
        tests: &[CRP],
        drugs: &[drug("313782", "acetaminophen 325 MG Oral Tablet", "650 mg", 3)],
    },
    Ailment {
        snomed: "444814009",
        icd10: "J01.90",
        display: "Viral sinusitis",
        chronic: false,
        from_age: 4,
        tests: &[],
        drugs: &[],
    },
    Ailment {
        snomed: "195967001",
        icd10: "J45.909",
        display: "Asthma",
        chronic: true,
        from_age: 3,
        tests: &[FEV1],
        drugs: &[
            drug(
                "745752",
                "albuterol 0.09 MG/ACTUAT Metered Dose Inhaler",
                "2 puffs",
                4,
            ),
            drug(
                "896188",
                "fluticasone propionate 0.11 MG/ACTUAT Metered Dose Inhaler",
                "1 puff",
                2,
            ),
        ],
    },
    Ailment {
        snomed: "431855005",
        icd10: "N18.1",
        display: "Chronic kidney disease stage 1",
        chronic: true,
        from_age: 40,
        tests: &[CREATININE, EGFR, POTASSIUM],
        drugs: &[],
    },
    Ailment {
        snomed: "271737000",
        icd10: "D64.9",
        display: "Anemia",
        chronic: true,
        from_age: 1,
        tests: &[HEMOGLOBIN],
        drugs: &[drug("310325", "ferrous sulfate 325 MG Oral Tablet", "325 mg", 1)],
    },
    Ailment {
        snomed: "68566005",
        icd10: "N39.0",
        display: "Urinary tract infectious disease",
        chronic: false,
        from_age: 1,
        tests: &[LEUKOCYTES, CRP],
        drugs: &[drug(
            "1648755",
            "nitrofurantoin 5 MG/ML Oral Suspension",
            "10 mL",
            2,
        )],
    },
    Ailment {
        snomed: "40930008",
        icd10: "E03.9",
        display: "Hypothyroidism",
        chronic: true,
        from_age: 18,
        tests: &[TSH],
        drugs: &[drug(
            "966224",
            "levothyroxine sodium 0.075 MG Oral Tablet",
            "75 ug",
            1,
        )],
    },
    Ailment {
        snomed: "22298006",
        icd10: "I21.9",
        display: "Myocardial infarction",
        chronic: false,
        from_age: 40,
        tests: &[TROPONIN, POTASSIUM, LDL],
        drugs: &[
            drug("309362", "clopidogrel 75 MG Oral Tablet", "75 mg", 1),
            drug("243670", "aspirin 81 MG Oral Tablet", "81 mg", 1),
        ],
    },
    Ailment {
        snomed: "86406008",
        icd10: "B20",
        display: "Human immunodeficiency virus infection",
        chronic: true,
        from_age: 18,
        tests: &[VIRAL_LOAD],
        drugs: &[drug(
            "1747691",
            "abacavir 600 MG / dolutegravir 50 MG / lamivudine 300 MG Oral Tablet",
            "1 tablet",
            1,
        )],
    },
];

/// What a patient of an age has; often nothing.
pub(crate) fn ailments_of(dice: &mut Dice, age: i64) -> Vec<&'static Ailment> {
    // The first in the table are the frequent ones, and the old have more.
    let chance = |place: usize| 34 - 2 * i64::try_from(place).unwrap_or(0) + age / 8;
    AILMENTS
        .iter()
        .enumerate()
        .filter(|(place, ailment)| dice.percent(chance(*place)) && age >= ailment.from_age)
        .map(|(_, ailment)| ailment)
        .collect()
}
