SELECT o.id, 0 AS _row,
       CASE WHEN j #>> '{subject,reference}' LIKE 'Patient/%' THEN substr(j #>> '{subject,reference}', 9) END AS patient_id,
       CASE WHEN j #>> '{encounter,reference}' LIKE 'Encounter/%' THEN substr(j #>> '{encounter,reference}', 11) END AS encounter_id,
       j ->> 'effectiveDateTime' AS effective,
       j ->> 'status' AS status,
       (systolic.c #>> '{valueQuantity,value}')::numeric AS systolic_value,
       systolic.c #>> '{valueQuantity,unit}' AS systolic_unit,
       (diastolic.c #>> '{valueQuantity,value}')::numeric AS diastolic_value,
       diastolic.c #>> '{valueQuantity,unit}' AS diastolic_unit
FROM (SELECT r.fhir_id::text COLLATE "C" AS id, v.res_text_vc::jsonb AS j
      FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver
      WHERE r.res_type = 'Observation' AND r.res_deleted_at IS NULL
      OFFSET 0) o,
     LATERAL (SELECT c FROM jsonb_array_elements(j -> 'component') WITH ORDINALITY component (c, n)
              WHERE c @> '{"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}}' ORDER BY n LIMIT 1) systolic,
     LATERAL (SELECT c FROM jsonb_array_elements(j -> 'component') WITH ORDINALITY component (c, n)
              WHERE c @> '{"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]}}' ORDER BY n LIMIT 1) diastolic
WHERE j @> '{"code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}}'
   OR j @> '{"code": {"coding": [{"system": "http://loinc.org", "code": "55284-4"}]}}'
