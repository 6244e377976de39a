SELECT o.id, coalesce(coding.n - 1, 0)::int AS _row,
       CASE WHEN j #>> '{subject,reference}' LIKE 'Patient/%' THEN substr(j #>> '{subject,reference}', 9) END AS patient_id,
       j ->> 'status' AS status,
       j #>> '{class,code}' AS class,
       j #>> '{period,start}' AS start,
       j #>> '{period,end}' AS "end",
       CASE WHEN j #>> '{serviceProvider,reference}' LIKE 'Organization/%' THEN substr(j #>> '{serviceProvider,reference}', 14) END AS provider_id,
       coding.c ->> 'system' AS type_system,
       coding.c ->> 'code' AS type_code,
       coding.c ->> 'display' AS type_display
FROM (SELECT r.fhir_id::text COLLATE "C" AS id, v.res_text_vc::jsonb AS j
      FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver
      WHERE r.res_type = 'Encounter' AND r.res_deleted_at IS NULL
      OFFSET 0) o
     LEFT JOIN LATERAL jsonb_path_query(j, '$.type[*].coding[*]') WITH ORDINALITY coding (c, n) ON true
