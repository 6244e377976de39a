{{- /*
A daemon's configuration as TOML, made of a map of sections. Values come as YAML, where every number may be one with a point: whole ones are written without,
since a daemon takes no 7401.0 for a number of connections. A text of JSON is one of TOML.
*/ -}}
{{- define "researchflow.toml" -}}
{{- template "researchflow.toml.section" (dict "path" "" "map" .) -}}
{{- end -}}

{{- define "researchflow.toml.section" -}}
{{- $path := .path -}}
{{- range $key, $value := .map }}
{{- if not (kindIs "map" $value) }}
{{ template "researchflow.toml.key" $key }} = {{ template "researchflow.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .map }}
{{- if kindIs "map" $value }}
{{- $at := ne $path "" | ternary (printf "%s.%s" $path $key) $key }}

[{{ $at }}]
{{- template "researchflow.toml.section" (dict "path" $at "map" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "researchflow.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{- range $number, $key := keys . | sortAlpha }}{{ if $number }}, {{ end }}{{ template "researchflow.toml.key" $key }} = {{ template "researchflow.toml.value" (index $ $key) }}{{ end -}} }
{{- else if kindIs "slice" . -}}
[ {{- range $number, $value := . }}{{ if $number }},{{ end }}{{ template "researchflow.toml.value" $value }}{{ end -}} ]
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- /* A name as TOML takes it bare, or else in quotes. */ -}}
{{- define "researchflow.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}
