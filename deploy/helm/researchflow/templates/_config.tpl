{{- /*
What each daemon's file says: the values' `config`, and over it what the chart itself decides (addresses, ports, the drain), so that both cannot differ.
*/ -}}
{{- define "researchflow.config.daemon" -}}
{{- $own := dict
  "grpc_listen" (printf "0.0.0.0:%d" (int .values.service.grpcPort))
  "admin_listen" (printf "0.0.0.0:%d" (int .values.service.adminPort))
  "shutdown_grace_seconds" .root.Values.drainSeconds -}}
{{- with .root.Values.tracing -}}
{{- if .endpoint -}}
{{- $_ := set $own "tracing" (dict "otlp_endpoint" .endpoint "protocol" .protocol "sample_ratio" .sampleRatio) -}}
{{- end -}}
{{- end -}}
{{- $config := deepCopy .values.config -}}
{{- if not (dig "daemon" "log_format" "" $config) -}}
{{- $_ := set $own "log_format" "json" -}}
{{- end -}}
{{- mergeOverwrite $config (dict "daemon" $own) .own | toJson -}}
{{- end -}}

{{- define "researchflow.config.batch-refresher" -}}
{{- $own := dict "views" (dict "folder" "/etc/researchflow/views") -}}
{{- include "researchflow.config.daemon" (dict "root" . "values" .Values.batchRefresher "own" $own) | fromJson | include "researchflow.toml" | trim -}}
{{- end -}}

{{- define "researchflow.config.speed-ingestor" -}}
{{- $values := .Values.speedIngestor -}}
{{- $webhook := include "researchflow.address" (dict "root" . "service" "speed-ingestor-webhook" "port" $values.service.webhookPort) -}}
{{- $own := dict
  "webhook" (dict
    "listen" (printf "0.0.0.0:%d" (int $values.service.webhookPort))
    "secret_file" "/etc/researchflow/secrets/webhook-secrets")
  "batch" (dict "url" (include "researchflow.address" (dict "root" . "service" "batch-refresher" "port" .Values.batchRefresher.service.grpcPort)))
  "hapi" (dict "url" $values.hapiUrl "webhook_url" (default (printf "%s/fhir" $webhook) $values.webhookUrl)) -}}
{{- if $values.secretKeys.hapiAuthorization -}}
{{- $_ := set $own.hapi "authorization_file" "/etc/researchflow/secrets/hapi-authorization" -}}
{{- end -}}
{{- include "researchflow.config.daemon" (dict "root" . "values" $values "own" $own) | fromJson | include "researchflow.toml" | trim -}}
{{- end -}}

{{- define "researchflow.config.serving-gateway" -}}
{{- $values := .Values.servingGateway -}}
{{- $own := dict
  "use_speed_layer" $values.useSpeedLayer
  "http" (dict "listen" (printf "0.0.0.0:%d" (int $values.service.httpPort)))
  "services" (dict
    "speed" (include "researchflow.address" (dict "root" . "service" "speed-ingestor" "port" .Values.speedIngestor.service.grpcPort))
    "batch" (include "researchflow.address" (dict "root" . "service" "batch-refresher" "port" .Values.batchRefresher.service.grpcPort))) -}}
{{- $config := include "researchflow.config.daemon" (dict "root" . "values" $values "own" $own) | fromJson -}}
{{- /* Answers that are under way may use the drain, but for what the stop itself takes. */ -}}
{{- if not (hasKey (dig "query" dict $config) "stop_seconds") -}}
{{- $_ := mergeOverwrite $config (dict "query" (dict "stop_seconds" (sub .Values.drainSeconds 5 | max 1))) -}}
{{- end -}}
{{- include "researchflow.toml" $config | trim -}}
{{- end -}}
