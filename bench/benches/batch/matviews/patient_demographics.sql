SELECT p.id, 0 AS _row,
       j ->> 'gender' AS gender,
       j ->> 'birthDate' AS birth_date,
       j ->> 'deceasedDateTime' AS deceased,
       official.name ->> 'family' AS family,
       official.name #>> '{given,0}' AS given,
       j #>> '{maritalStatus,coding,0,code}' AS marital_status,
       jsonb_path_query_first(j, '$.extension[*] ? (@.url == "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race").extension[*] ? (@.url == "text").valueString') #>> '{}' AS race,
       j #>> '{address,0,city}' AS city,
       j #>> '{address,0,state}' AS state,
       j #>> '{address,0,postalCode}' AS postal_code
FROM (SELECT r.fhir_id::text COLLATE "C" AS id, v.res_text_vc::jsonb AS j
      FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver
      WHERE r.res_type = 'Patient' AND r.res_deleted_at IS NULL
      OFFSET 0) p,
     jsonb_path_query_first(j, '$.name[*] ? (@.use == "official")') official (name)
