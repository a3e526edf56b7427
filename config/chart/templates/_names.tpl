{{/* Labels of every object; called with the root. */}}
{{- define "portcullis.labels" -}}
app.kubernetes.io/name: portcullis
app.kubernetes.io/part-of: portcullis
{{ include "portcullis.releaseLabels" . }}
{{- end }}

{{/* Labels that tell the release. */}}
{{- define "portcullis.releaseLabels" -}}
{{- $labels := dict "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $labels .Values.labels) }}
{{- end }}

{{/* An object of a file of config/, with the release's labels and namespaces: called with dict "root" $ "object" $object. */}}
{{- define "portcullis.object" -}}
{{- $root := .root }}
{{- $object := .object }}
{{- $_ := set $object.metadata "labels" (merge (include "portcullis.releaseLabels" $root | fromYaml) $object.metadata.labels) }}
{{- if eq ($object.metadata.namespace | default "") "portcullis-system" }}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace }}
{{- end }}
{{- range $object.subjects | default list }}
{{- $_ := set . "namespace" $root.Release.Namespace }}
{{- end }}
{{- toYaml $object }}
{{- end }}

{{/* Whether the webhook is told to look for a certificate in a folder. */}}
{{- define "portcullis.certificateSecret" -}}
{{- if eq .Values.certificates.mode "certManager" }}portcullis-webhook{{ else if eq .Values.certificates.mode "existingSecret" }}{{ .Values.certificates.existingSecret }}{{ end }}
{{- end }}

{{/* The arguments of the program, a list in JSON. */}}
{{- define "portcullis.args" -}}
{{- $v := .Values -}}
{{- $args := list "serve" "--config=/etc/portcullis/config.yaml" -}}
{{- if $v.arm }}{{ $args = append $args "--arm" }}{{ end -}}
{{- if ne $v.certificates.mode "managed" }}{{ $args = append $args "--cert-dir=/var/run/portcullis/certs" }}{{ end -}}
{{- if and $v.arm (ne $v.probeNamespace "default") }}{{ $args = append $args (printf "--probe-namespace=%s" $v.probeNamespace) }}{{ end -}}
{{- if not $v.reports.enabled }}{{ $args = append $args "--reports=false" }}{{ end -}}
{{- if $v.metrics.secure }}{{ $args = append $args "--metrics-secure" }}{{ end -}}
{{- with $v.certificates.caLifetime }}{{ $args = append $args (printf "--ca-lifetime=%s" .) }}{{ end -}}
{{- with $v.certificates.lifetime }}{{ $args = append $args (printf "--certificate-lifetime=%s" .) }}{{ end -}}
{{- with $v.webhook.tlsMinVersion }}{{ $args = append $args (printf "--tls-min-version=%s" .) }}{{ end -}}
{{- with $v.webhook.maxRequests }}{{ $args = append $args (printf "--max-requests=%d" (int .)) }}{{ end -}}
{{- if $v.webhook.secretPath }}{{ $args = append $args "--secret-path" }}{{ end -}}
{{- with $v.audit.every }}{{ $args = append $args (printf "--audit-every=%s" .) }}{{ end -}}
{{- with $v.drainDelay }}{{ $args = append $args (printf "--drain-delay=%s" .) }}{{ end -}}
{{- with $v.tracing.endpoint }}{{ $args = append $args (printf "--tracing-endpoint=%s" .) }}{{ end -}}
{{- if not (kindIs "invalid" $v.tracing.sampling) }}{{ $args = append $args (printf "--tracing-sampling=%s" ($v.tracing.sampling | toJson)) }}{{ end -}}
{{- if ne (int $v.ports.webhook) 9443 }}{{ $args = append $args (printf "--port=%d" (int $v.ports.webhook)) }}{{ end -}}
{{- if ne (int $v.ports.metrics) 8080 }}{{ $args = append $args (printf "--metrics-address=:%d" (int $v.ports.metrics)) }}{{ end -}}
{{- if ne (int $v.ports.health) 8081 }}{{ $args = append $args (printf "--health-address=:%d" (int $v.ports.health)) }}{{ end -}}
{{- concat $args $v.extraArgs | toJson }}
{{- end }}
