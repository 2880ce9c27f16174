{{/* The name of everything that there is once per release. */}}
{{- define "penstock.name" -}}{{ .Release.Name }}{{- end -}}

{{/* A number as digits: Go prints large ones as 4e+06. */}}
{{- define "penstock.number" -}}{{ toJson . }}{{- end -}}

{{/* Labels of the gateway's pods. */}}
{{- define "penstock.labels" -}}
{{- if eq .Values.gateway.kind "gatewayAPI" -}}
{{ toYaml (dict "gateway.networking.k8s.io/gateway-name" .Values.gateway.name) }}
{{- else -}}
{{ toYaml (.Values.gateway.selector | default (dict "istio" "ingressgateway")) }}
{{- end -}}
{{- end -}}

{{/* What a policy is for: the pods of the gateway, by label or by the Gateway that they belong to. */}}
{{- define "penstock.target" -}}
{{- if eq .Values.gateway.kind "gatewayAPI" -}}
targetRefs:
- group: gateway.networking.k8s.io
  kind: Gateway
  name: {{ .Values.gateway.name }}
{{- else -}}
selector:
  matchLabels:
    {{- include "penstock.labels" . | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* The labels that Penstock puts into its stat names. Envoy cuts them out by an unanchored regex: none may be the end of another. */}}
{{- define "penstock.statTags" -}}model,version,phase,tenant,outcome,reason,handling,limit,kind{{- end -}}

{{/* How a model is called in metrics: what is not named in the configuration is `other`. */}}
{{- define "penstock.modelLabel" -}}{{ ternary "other" . (eq . "*") }}{{- end -}}

{{/* The configuration, or what is missing in it. */}}
{{- define "penstock.config" -}}
{{- $config := .Values.config -}}
{{- if not $config.models -}}{{- fail "config.models is empty: list the models, as docs/configuration.md has it, or take a file of examples/" -}}{{- end -}}
{{- if not $config.hosts -}}{{- fail "config.hosts is empty: list the host names that clients use for the models; what goes to others passes untouched" -}}{{- end -}}
{{- if and .Values.envoyFilter.enabled (hasKey $config "waitForBody") -}}{{- fail "config.waitForBody is set by the EnvoyFilter: leave it out, or set envoyFilter.enabled to false" -}}{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/*
Where requests go, as a JSON list: every version of every model, with the model `*` last, because routes are tried in this order.
Each has: name (of its route), group (the model, as names have it), model, version ("" where the model is not split), label (how metrics call the model), series (what selects
its metrics), weight, share (of the model's requests), service, host, port, inferencePool, perReplica, prefill and decode (tokens a second
of a replica; 0 where the configuration does not say), holds (whether requests wait while it has no server), shadow (the version that copies
are for, where there is one and it is another) and shadowService, isPinned (the weights are the route's).
*/}}
{{- define "penstock.versions" -}}
{{- $root := . -}}
{{- $named := list -}}
{{- $rest := list -}}
{{- $config := include "penstock.config" . | fromJson -}}
{{- range $model := $config.models -}}
  {{- $server := get $root.Values.servers.models $model.name | default dict -}}
  {{- $service := $server.service | default $model.name -}}
  {{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" $service) -}}
    {{- fail (printf "servers.models: `%s` is no name of a Service; write {%q: {service: NAME}}" $service $model.name) -}}
  {{- end -}}
  {{- $weights := 0.0 -}}
  {{- $active := $model.active | default "" -}}
  {{- range $model.versions | default (list (dict "weight" 1)) -}}{{- $weights = addf $weights (.weight | default 0) -}}{{- end -}}
  {{- if or $active (eq ($model.owns | default "") "pin") -}}{{- $weights = 1.0 -}}{{- end -}}
  {{- $shadow := ($model.shadow | default dict).version | default "" -}}
  {{- range $version := $model.versions | default (list (dict "name" "" "weight" 1)) -}}
    {{- $weight := $version.weight | default 0 -}}
    {{- if $active -}}{{- $weight = ternary 1 0 (eq $version.name $active) -}}{{- end -}}
    {{- if eq ($model.owns | default "") "pin" -}}{{- $weight = 1 -}}{{- end -}}
    {{- $replica := dict -}}
    {{- range $key, $value := $model.replica | default dict -}}{{- $_ := set $replica $key $value -}}{{- end -}}
    {{- range $key, $value := $version.replica | default dict -}}{{- $_ := set $replica $key $value -}}{{- end -}}
    {{- $own := get ($server.versions | default dict) $version.name | default dict -}}
    {{- $name := ternary $service (printf "%s-%s" $service $version.name) (eq $version.name "") -}}
    {{- $backend := ternary ($own.service | default $name) $service (eq $root.Values.gateway.kind "gatewayAPI") -}}
    {{- $entry := dict
      "name" $name
      "group" $service
      "model" $model.name
      "version" $version.name
      "service" $backend
      "host" (printf "%s.%s.svc.cluster.local" $backend $root.Values.servers.namespace)
      "port" ($server.port | default $root.Values.servers.port)
      "inferencePool" ($own.inferencePool | default "")
      "label" (include "penstock.modelLabel" $model.name)
      "series" (printf "model=%q,version=%q" (include "penstock.modelLabel" $model.name) ($version.name | default "default"))
      "shadow" (ternary "" $shadow (eq $shadow $version.name))
      "shadowService" ((get ($server.versions | default dict) $shadow | default dict).service | default (printf "%s-%s" $service $shadow))
      "isPinned" (eq ($model.owns | default "") "pin")
      "weight" $weight
      "share" (divf $weight (ternary $weights 1.0 (gt $weights 0.0)))
      "perReplica" (($model.pending | default dict).perReplica | default 0)
      "prefill" ($replica.prefillTokensPerSecond | default 0)
      "decode" ($replica.decodeTokensPerSecond | default 0)
      "holds" (not (empty (or $model.coldStart $version.coldStart)))
    -}}
    {{- if eq $model.name "*" -}}
      {{- $rest = append $rest $entry -}}
    {{- else -}}
      {{- $named = append $named $entry -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson (concat $named $rest) -}}
{{- end -}}

{{/* The one of the list above that takes what no other route takes. */}}
{{- define "penstock.otherwise" -}}
{{- $versions := include "penstock.versions" . | fromJsonArray -}}
{{- $wanted := .Values.routes.otherwise -}}
{{- $found := ternary (list) (list (first $versions)) (gt (len $wanted) 0) -}}
{{- range $versions -}}
  {{- if and (eq .model ($wanted.model | default "")) (eq .version ($wanted.version | default .version)) -}}
    {{- $found = append $found . -}}
  {{- end -}}
{{- end -}}
{{- if not $found -}}{{- fail (printf "routes.otherwise: there is no version %s in config.models" (toJson $wanted)) -}}{{- end -}}
{{- toJson (first $found) -}}
{{- end -}}

{{/* What is meant by the objectives in a text of files/; takes the root and the text. */}}
{{- define "penstock.objectives" -}}
{{- $objectives := (index . 0).Values.monitoring.objectives -}}
{{- index . 1 | replace "OBJECTIVE_ANSWERED" (toString $objectives.answered) | replace "OBJECTIVE_FIRST_TOKEN" (toString $objectives.firstToken) | replace "OBJECTIVE_MILLISECONDS" (toString (int64 $objectives.firstTokenMilliseconds)) -}}
{{- end -}}
