{{- /* Names, labels and images. */ -}}

{{- define "researchflow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What pods of a daemon are selected by: `dict "root" $ "daemon" "batch-refresher"`. */ -}}
{{- define "researchflow.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .daemon }}
{{- end -}}

{{- define "researchflow.labels" -}}
{{ include "researchflow.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: researchflow
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "researchflow.metadata" -}}
name: {{ include "researchflow.fullname" .root }}-{{ .daemon }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "researchflow.labels" . | nindent 2 }}
{{- end -}}

{{- /* The name of a Service inside of the cluster, and of a daemon in its certificate: `dict "root" $ "service" "speed-ingestor"`. */ -}}
{{- define "researchflow.host" -}}
{{ include "researchflow.fullname" .root }}-{{ .service }}.{{ .root.Release.Namespace }}.svc
{{- end -}}

{{- /* Its address: further `"port" 7402 "secured" true`. */ -}}
{{- define "researchflow.address" -}}
{{ ternary "https" "http" .secured }}://{{ include "researchflow.host" . }}:{{ .port }}
{{- end -}}

{{- define "researchflow.viewsConfigMap" -}}
{{- default (printf "%s-views" (include "researchflow.fullname" .)) .Values.views.existingConfigMap -}}
{{- end -}}
