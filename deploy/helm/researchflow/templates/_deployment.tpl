{{- /*
A daemon's Deployment. `dict`: root, daemon, values, replicas (false where an autoscaler decides), service (name for grpc.health.v1), ports (name -> number), env,
volumes, mounts, annotations.
*/ -}}
{{- define "researchflow.deployment" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $selector := include "researchflow.selector" . -}}
{{- $volumes := .volumes -}}
{{- $mounts := .mounts -}}
{{- if $root.Values.tls.enabled -}}
{{- /* As a folder, not as single files: so a renewed certificate reaches the running pods. */ -}}
{{- $secret := index $root.Values.tls.secrets (.daemon | camelcase | untitle) -}}
{{- $volumes = append $volumes (dict "name" "tls" "secret" (dict "secretName" $secret "defaultMode" 0o440)) -}}
{{- $mounts = append $mounts (dict "name" "tls" "mountPath" "/etc/researchflow/tls" "readOnly" true) -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "researchflow.metadata" . | nindent 2 }}
spec:
  {{- if .replicas }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    # A new pod serves before an old one is told to stop.
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "researchflow.labels" . | nindent 8 }}
      annotations:
        # What the pods were started with: a change brings new ones.
        checksum/config: {{ include (printf "researchflow.config.%s" .daemon) $root | sha256sum }}
        {{- with .annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "researchflow.fullname" $root }}-{{ .daemon }}
      # No daemon talks to Kubernetes.
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ add $root.Values.drainSeconds $root.Values.preStopSeconds 5 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ $root.Values.podSecurity.runAsUser }}
        runAsGroup: {{ $root.Values.podSecurity.runAsUser }}
        fsGroup: {{ $root.Values.podSecurity.fsGroup }}
        seccompProfile: {type: RuntimeDefault}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .daemon }}
          image: {{ printf "%s/%s:%s" $root.Values.image.repository .daemon (default $root.Chart.AppVersion $root.Values.image.tag) | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: ["--config", "/etc/researchflow/config/config.toml"]
          {{- with concat .env $values.extraEnv }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
            {{- end }}
          # Alive is who answers at all. Who waits for a database is alive, and not ready: a restart would not bring the database back.
          startupProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 10
            timeoutSeconds: 3
            failureThreshold: 3
          readinessProbe:
            {{- if $root.Values.tls.enabled }}
            # Kubernetes' probes of gRPC know no TLS. This one is told the same.
            httpGet: {path: /readyz, port: admin}
            {{- else }}
            grpc: {port: {{ $values.service.grpcPort }}, service: {{ .service }}}
            {{- end }}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          lifecycle:
            # Until all of the cluster knows that the pod is leaving, it answers as before.
            preStop:
              sleep: {seconds: {{ $root.Values.preStopSeconds }}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /etc/researchflow/config, readOnly: true}
            {{- with concat $mounts $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: config
          configMap: {name: {{ include "researchflow.fullname" $root }}-{{ .daemon }}}
        {{- with concat $volumes $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if $root.Values.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- range $root.Values.topologySpread.topologyKeys }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
        {{- end }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{- /* A variable whose value is a key of a Secret. */ -}}
{{- define "researchflow.fromSecret" -}}
{{- dict "name" .name "valueFrom" (dict "secretKeyRef" (dict "name" .secret "key" .key)) | toJson -}}
{{- end -}}
