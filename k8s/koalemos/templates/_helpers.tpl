{{- define "koalemos.name" -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- end }}

{{- define "koalemos.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}

{{- define "koalemos.labels" -}}
app.kubernetes.io/name: koalemos
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* (dict "root" $ "component" "doorman") */ -}}
{{- define "koalemos.selector" -}}
app.kubernetes.io/name: koalemos
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "koalemos.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "koalemos.name" . }}-nats:4222
{{- else -}}
{{ required "nats.url: where is NATS? (or nats.enabled: true for one of this chart's own)" .Values.nats.url }}
{{- end -}}
{{- end }}

{{- define "koalemos.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "koalemos.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* Probes of a service on its port "http". */ -}}
{{- define "koalemos.probes" -}}
startupProbe:
  httpGet: { path: /-/healthy, port: http }
  failureThreshold: 30
  periodSeconds: 2
livenessProbe:
  httpGet: { path: /-/healthy, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /-/ready, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "koalemos.mounts" -}}
- { name: config, mountPath: /etc/koalemos, readOnly: true }
{{- if .Values.store.s3.existingSecret }}
- { name: s3, mountPath: /etc/koalemos-s3, readOnly: true }
{{- end }}
{{- if and (not .Values.nats.enabled) .Values.nats.existingSecret }}
- { name: nats, mountPath: /etc/koalemos-nats, readOnly: true }
{{- end }}
{{- if .Values.auth.keysSecret }}
- { name: keys, mountPath: /etc/koalemos-keys, readOnly: true }
{{- end }}
{{- if and .Values.audit.enabled .Values.audit.keySecret }}
- { name: audit-key, mountPath: /etc/koalemos-audit, readOnly: true }
{{- end }}
{{- end }}

{{- define "koalemos.volumes" -}}
- name: config
  configMap: { name: {{ include "koalemos.name" . }} }
{{- if .Values.store.s3.existingSecret }}
- name: s3
  secret: { secretName: {{ .Values.store.s3.existingSecret }}, defaultMode: 0440 }
{{- end }}
{{- if and (not .Values.nats.enabled) .Values.nats.existingSecret }}
- name: nats
  secret: { secretName: {{ .Values.nats.existingSecret }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.auth.keysSecret }}
- name: keys
  secret: { secretName: {{ .Values.auth.keysSecret }}, defaultMode: 0440 }
{{- end }}
{{- if and .Values.audit.enabled .Values.audit.keySecret }}
- name: audit-key
  secret: { secretName: {{ .Values.audit.keySecret }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- /* The audit log of a service without a volume of its own: each pod a folder of its own in it. */ -}}
{{- define "koalemos.auditMount" -}}
{{- if .Values.audit.enabled -}}
- { name: audit, mountPath: /var/log/koalemos, subPathExpr: $(POD_NAME) }
{{- end }}
{{- end }}

{{- define "koalemos.auditVolume" -}}
{{- if .Values.audit.enabled -}}
- name: audit
  {{- toYaml (.Values.audit.volume | default (dict "emptyDir" (dict "sizeLimit" "1Gi"))) | nindent 2 }}
{{- end }}
{{- end }}

{{- /* All names that ingestors of this release have. */ -}}
{{- define "koalemos.ingestorNames" -}}
{{- $names := list }}
{{- range $zone := (.Values.ingestor.zones | default (list "")) }}
{{- range $i := until (int $.Values.ingestor.replicas) }}
{{- $names = append $names (printf "%s-ingestor%s-%d" (include "koalemos.name" $) (ternary "" (printf "-%s" $zone) (eq $zone "")) $i) }}
{{- end }}
{{- end }}
{{- join "," $names }}
{{- end }}

{{- /* NetworkPolicy peers: pods of this release of these components. (dict "root" $ "components" (list "doorman")) */ -}}
{{- define "koalemos.peers" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: koalemos
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - { key: app.kubernetes.io/component, operator: In, values: [{{ join ", " .components }}] }
{{- end }}

{{- /* For pods that keep something: what a doorman does not hold it cannot lose. */ -}}
{{- define "koalemos.encryptionMounts" -}}
{{- if .Values.encryption.keysSecret }}
- { name: encryption, mountPath: /etc/koalemos-encryption, readOnly: true }
{{- end }}
{{- end }}

{{- define "koalemos.encryptionVolumes" -}}
{{- if .Values.encryption.keysSecret }}
- name: encryption
  secret: { secretName: {{ .Values.encryption.keysSecret }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- /* A changed configuration restarts the pods. */ -}}
{{- define "koalemos.annotations" -}}
checksum/config: {{ include (print $.root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Who a service is to NATS, by an NKey: its seed alone is in its pod. (dict "root" $ "user" "doorman") */ -}}
{{- define "koalemos.nkeyEnv" -}}
{{- if and .root.Values.nats.enabled .root.Values.nats.nkeysSecret -}}
- name: KOALEMOS_NATS_NKEY_FILE
  value: /etc/koalemos-nkey/seed
- name: KOALEMOS_NATS_NKEY_PUBLIC
  valueFrom: { secretKeyRef: { name: {{ .root.Values.nats.nkeysSecret }}, key: {{ .user }}.public } }
{{- end }}
{{- end }}

{{- define "koalemos.nkeyMount" -}}
{{- if and .Values.nats.enabled .Values.nats.nkeysSecret -}}
- { name: nkey, mountPath: /etc/koalemos-nkey, readOnly: true }
{{- end }}
{{- end }}

{{- define "koalemos.nkeyVolume" -}}
{{- if and .root.Values.nats.enabled .root.Values.nats.nkeysSecret -}}
- name: nkey
  secret: { secretName: {{ .root.Values.nats.nkeysSecret }}, defaultMode: 0440, items: [{ key: {{ .user }}.seed, path: seed }] }
{{- end }}
{{- end }}
