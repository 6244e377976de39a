{{- /*
What each daemon's file says: the values' `config`, and over it what the chart itself decides (addresses, ports, the drain, TLS), so that both cannot differ.
`callers`: whether callers of gRPC must show a certificate; `allowed`: the daemons among whom those are that may call, where nothing else is configured.
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
{{- if .root.Values.tls.enabled -}}
{{- $_ := set $own "grpc_tls" (include "researchflow.config.listener" .callers | fromJson) -}}
{{- if and .allowed (not (dig "daemon" "grpc_tls" "allowed_clients" list $config)) -}}
{{- $names := list -}}
{{- range .allowed -}}
{{- $names = append $names (include "researchflow.host" (dict "root" $.root "service" .)) -}}
{{- end -}}
{{- $_ := set $own.grpc_tls "allowed_clients" $names -}}
{{- end -}}
{{- end -}}
{{- /* Who may reach the port is then for the NetworkPolicies to say. */ -}}
{{- if and .root.Values.allowUnauthenticated (or (not .root.Values.tls.enabled) (ne .callers "required")) -}}
{{- $_ := set $own "grpc" (dict "allow_unauthenticated" true) -}}
{{- end -}}
{{- if not (dig "daemon" "log_format" "" $config) -}}
{{- $_ := set $own "log_format" "json" -}}
{{- end -}}
{{- mergeOverwrite $config (dict "daemon" $own) .own | toJson -}}
{{- end -}}

{{- /* A listener's section: whether its callers must show a certificate (required, optional, off). */ -}}
{{- define "researchflow.config.listener" -}}
{{- $listener := dict "certificate" "/etc/researchflow/tls/tls.crt" "key" "/etc/researchflow/tls/tls.key" "client_certificates" . -}}
{{- if ne . "off" -}}
{{- $_ := set $listener "client_ca" "/etc/researchflow/tls/ca.crt" -}}
{{- end -}}
{{- $listener | toJson -}}
{{- end -}}

{{- /* A caller's section. */ -}}
{{- define "researchflow.config.caller" -}}
{{- dict "ca" "/etc/researchflow/tls/ca.crt" "certificate" "/etc/researchflow/tls/tls.crt" "key" "/etc/researchflow/tls/tls.key" | toJson -}}
{{- end -}}

{{- define "researchflow.config.batch-refresher" -}}
{{- $own := dict "views" (dict "folder" "/etc/researchflow/views") -}}
{{- include "researchflow.config.daemon" (dict "root" . "values" .Values.batchRefresher "own" $own "callers" "required" "allowed" (list "speed-ingestor" "serving-gateway")) | fromJson | include "researchflow.toml" | trim -}}
{{- end -}}

{{- define "researchflow.config.speed-ingestor" -}}
{{- $values := .Values.speedIngestor -}}
{{- $webhook := include "researchflow.address" (dict "root" . "service" "speed-ingestor-webhook" "port" $values.service.webhookPort "secured" (and .Values.tls.enabled .Values.tls.webhook)) -}}
{{- $own := dict
  "webhook" (dict
    "listen" (printf "0.0.0.0:%d" (int $values.service.webhookPort))
    "secret_file" "/etc/researchflow/secrets/webhook-secrets")
  "batch" (dict "url" (include "researchflow.address" (dict "root" . "service" "batch-refresher" "port" .Values.batchRefresher.service.grpcPort "secured" .Values.tls.enabled)))
  "hapi" (dict "url" $values.hapiUrl "webhook_url" (default (printf "%s/fhir" $webhook) $values.webhookUrl)) -}}
{{- if $values.secretKeys.hapiAuthorization -}}
{{- $_ := set $own.hapi "authorization_file" "/etc/researchflow/secrets/hapi-authorization" -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $own.batch "tls" (include "researchflow.config.caller" . | fromJson) -}}
{{- if .Values.tls.webhook -}}
{{- /* HAPI shows the webhook's secret, and no certificate. */ -}}
{{- $_ := set $own.webhook "tls" (include "researchflow.config.listener" "off" | fromJson) -}}
{{- end -}}
{{- end -}}
{{- include "researchflow.config.daemon" (dict "root" . "values" $values "own" $own "callers" "required" "allowed" (list "serving-gateway")) | fromJson | include "researchflow.toml" | trim -}}
{{- end -}}

{{- define "researchflow.config.serving-gateway" -}}
{{- $values := .Values.servingGateway -}}
{{- $own := dict
  "use_speed_layer" $values.useSpeedLayer
  "http" (dict "listen" (printf "0.0.0.0:%d" (int $values.service.httpPort)))
  "services" (dict
    "speed" (include "researchflow.address" (dict "root" . "service" "speed-ingestor" "port" .Values.speedIngestor.service.grpcPort "secured" .Values.tls.enabled))
    "batch" (include "researchflow.address" (dict "root" . "service" "batch-refresher" "port" .Values.batchRefresher.service.grpcPort "secured" .Values.tls.enabled))) -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $own.services "tls" (include "researchflow.config.caller" . | fromJson) -}}
{{- $_ := set $own.http "tls" (include "researchflow.config.listener" .Values.tls.agentCertificates | fromJson) -}}
{{- end -}}
{{- /* Who may reach the port is then for the NetworkPolicies to say. */ -}}
{{- if and .Values.allowUnauthenticated (or (not .Values.tls.enabled) (ne .Values.tls.agentCertificates "required")) -}}
{{- $_ := set $own.http "allow_unauthenticated" true -}}
{{- end -}}
{{- $config := include "researchflow.config.daemon" (dict "root" . "values" $values "own" $own "callers" .Values.tls.agentCertificates "allowed" list) | fromJson -}}
{{- /* Answers that are under way may use the drain, but for what the stop itself takes. */ -}}
{{- if not (hasKey (dig "query" dict $config) "stop_seconds") -}}
{{- $_ := mergeOverwrite $config (dict "query" (dict "stop_seconds" (sub .Values.drainSeconds 5 | max 1))) -}}
{{- end -}}
{{- include "researchflow.toml" $config | trim -}}
{{- end -}}
