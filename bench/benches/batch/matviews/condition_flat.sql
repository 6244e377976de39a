SELECT o.id, coalesce(coding.n - 1, 0)::int AS _row,
       CASE WHEN j #>> '{subject,reference}' LIKE 'Patient/%' THEN substr(j #>> '{subject,reference}', 9) END AS patient_id,
       CASE WHEN j #>> '{encounter,reference}' LIKE 'Encounter/%' THEN substr(j #>> '{encounter,reference}', 11) END AS encounter_id,
       j ->> 'onsetDateTime' AS onset,
       j ->> 'abatementDateTime' AS abatement,
       j ->> 'recordedDate' AS recorded_date,
       j #>> '{clinicalStatus,coding,0,code}' AS clinical_status,
       j #>> '{verificationStatus,coding,0,code}' AS verification_status,
       j #>> '{code,text}' AS code_text,
       coding.c ->> 'system' AS system,
       coding.c ->> 'code' AS code,
       coding.c ->> 'display' AS display
FROM (SELECT r.fhir_id::text COLLATE "C" AS id, v.res_text_vc::jsonb AS j
      FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver
      WHERE r.res_type = 'Condition' AND r.res_deleted_at IS NULL
      OFFSET 0) o
     LEFT JOIN LATERAL jsonb_array_elements(j #> '{code,coding}') WITH ORDINALITY coding (c, n) ON true
