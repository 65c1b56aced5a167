{{- define "conch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "conch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "conch.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "conch.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "conch.selector" -}}
app.kubernetes.io/name: {{ include "conch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Another name than the operator's, whose selector would take in these pods. */ -}}
{{- define "conch.cacheSelector" -}}
app.kubernetes.io/name: {{ include "conch.name" . }}-cache
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The same holds here. */ -}}
{{- define "conch.frontDoorSelector" -}}
app.kubernetes.io/name: {{ include "conch.name" . | trunc 52 | trimSuffix "-" }}-front-door
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "conch.frontDoor" -}}
{{- include "conch.fullname" . | trunc 52 | trimSuffix "-" }}-front-door
{{- end -}}

{{- define "conch.frontDoorHost" -}}
{{- printf "%s.%s.svc" (include "conch.frontDoor" .) .Release.Namespace -}}
{{- end -}}

{{- /* For status.url: a certificate is for the hosts of a domain, hardly for a Service's name. */ -}}
{{- define "conch.frontDoorTLS" -}}
{{- if and .Values.frontDoor.tls.secretName .Values.frontDoor.domain }}yes{{ end -}}
{{- end -}}

{{- define "conch.frontDoorURL" -}}
{{- $scheme := ternary "https" "http" (eq "yes" (include "conch.frontDoorTLS" .)) -}}
{{- default (printf "%s://%s" $scheme (include "conch.frontDoorHost" .)) .Values.frontDoor.url -}}
{{- end -}}

{{- define "conch.frontDoorGRPC" -}}
{{- $port := ternary "443" "8001" (eq "yes" (include "conch.frontDoorTLS" .)) -}}
{{- default (printf "%s:%s" (include "conch.frontDoorHost" .) $port) .Values.frontDoor.grpc -}}
{{- end -}}

{{- /* Tolerations of a list, and of lost nodes: Kubernetes' own default of 300 s would leave services
without an operator, or callers with a dead address, for so long. */ -}}
{{- define "conch.tolerations" -}}
{{- $keys := list }}
{{- range . }}
{{- $keys = append $keys (default "" .key) }}
- {{- toYaml . | nindent 2 }}
{{- end }}
{{- range list "not-ready" "unreachable" }}
{{- if not (has (printf "node.kubernetes.io/%s" .) $keys) }}
- {key: node.kubernetes.io/{{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: 15}
{{- end }}
{{- end }}
{{- end -}}

{{- /* managed-by is Helm's here: children of services carry managed-by: conch. */ -}}
{{- define "conch.labels" -}}
{{ include "conch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "conch.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "conch.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "Give serviceAccount.name, or let the chart create the account: serviceAccount.create=true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "conch.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}
