{{- define "bearerd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "bearerd.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "bearerd.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "bearerd.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "bearerd.selector" -}}
app.kubernetes.io/name: {{ include "bearerd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bearerd.labels" -}}
{{ include "bearerd.selector" . }}
app.kubernetes.io/component: gateway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "bearerd.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "bearerd.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "bearerd.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* The configuration with what only the chart knows. */}}
{{- define "bearerd.config" -}}
{{- $name := include "bearerd.fullname" . }}
{{- $own := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) }}
{{- $hosts := concat (default list .Values.config.hosts) $own | uniq }}
{{- $guarded := or .Values.networkPolicy.enabled .Values.config.caller .Values.config.exposed }}
{{- if not $guarded }}
{{- fail "whoever reaches the Service would have the tokens' authority: enable networkPolicy, or set config.caller, or config.exposed" }}
{{- end }}
{{- merge (dict "exposed" (not .Values.config.caller) "listen" "0.0.0.0:8080" "hosts" $hosts) .Values.config | toYaml }}
{{- end }}
