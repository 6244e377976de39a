SELECT o.id, (coding.n - 1)::int AS _row,
       CASE WHEN j #>> '{subject,reference}' LIKE 'Patient/%' THEN substr(j #>> '{subject,reference}', 9) END AS patient_id,
       CASE WHEN j #>> '{encounter,reference}' LIKE 'Encounter/%' THEN substr(j #>> '{encounter,reference}', 11) END AS encounter_id,
       j ->> 'effectiveDateTime' AS effective,
       (j ->> 'issued')::timestamptz AS issued,
       j ->> 'status' AS status,
       (j #>> '{valueQuantity,value}')::numeric AS value,
       j #>> '{valueQuantity,unit}' AS unit,
       j #>> '{valueCodeableConcept,coding,0,code}' AS value_code,
       coding.c ->> 'system' AS system,
       coding.c ->> 'code' AS code,
       coding.c ->> 'display' AS display
FROM (SELECT r.fhir_id::text COLLATE "C" AS id, v.res_text_vc::jsonb AS j
      FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver
      WHERE r.res_type = 'Observation' AND r.res_deleted_at IS NULL
      OFFSET 0) o,
     jsonb_array_elements(j #> '{code,coding}') WITH ORDINALITY coding (c, n)
WHERE j @> '{"category": [{"coding": [{"code": "laboratory"}]}]}'
