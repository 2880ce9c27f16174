{{/*
What a rolled-out model is, as JSON: what rollouts.defaults says, and over that what its own entry does; `stable` and `canary` as
"penstock.versions" has them. Nothing where neither Argo nor Flagger is asked for, or the model is not theirs.
*/}}
{{- define "penstock.rollout" -}}
{{- $root := .root -}}
{{- $all := dict -}}
{{- range $version := include "penstock.versions" $root | fromJsonArray -}}
  {{- $_ := set $all $version.model (append (get $all $version.model | default list) $version) -}}
{{- end -}}
{{- $found := dict -}}
{{- if $root.Values.rollouts.kind -}}
{{- if ne $root.Values.gateway.kind "istio" -}}{{- fail "rollouts: Argo and Flagger move the routes of a VirtualService here; set gateway.kind to istio" -}}{{- end -}}
{{- range $name, $own := $root.Values.rollouts.models -}}
  {{- $versions := get $all $name -}}
  {{- if ne (len ($versions | default list)) 2 -}}{{- fail (printf "rollouts.models: `%s` needs two versions in config.models, the stable one first" $name) -}}{{- end -}}
  {{- if and (eq $root.Values.rollouts.kind "argo") (not ($own | default dict).replicas) -}}{{- fail (printf "rollouts.models.%s.replicas: say how many; a Rollout that does not has 1" $name) -}}{{- end -}}
  {{- if and (eq $root.Values.rollouts.kind "flagger") (first $versions).isPinned -}}{{- fail (printf "rollouts.models: `%s` has owns: pin, and Flagger makes routes that nobody comes back by; take argo, or leave owns out" $name) -}}{{- end -}}
  {{- range $model := $root.Values.config.models -}}
    {{- if and (eq $model.name $name) (ne ((first $model.versions).model | default $name) ((last $model.versions).model | default $name)) -}}
      {{- fail (printf "rollouts.models: the versions of `%s` have different names (versions[].model): a canary's requests go to the stable servers once it is taken back, which would not know theirs. Serve both under one name" $name) -}}
    {{- end -}}
  {{- end -}}
  {{- $rollout := dict "stable" (first $versions) "canary" (last $versions) "deployment" (first $versions).service -}}
  {{- range list $root.Values.rollouts.defaults ($own | default dict) -}}
    {{- range $key, $value := . -}}{{- $_ := set $rollout $key $value -}}{{- end -}}
  {{- end -}}
  {{- $_ := set $found $name $rollout -}}
{{- end -}}
{{- if not $found -}}{{- fail "rollouts.models is empty: name the models that are rolled out" -}}{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Requests that a version had to answer, failed or not. What a limit or a caller ended says nothing of it. */}}
{{- define "penstock.gate.requests" -}}
sum(increase(penstock_requests_total{model="{{ .model }}",version="{{ .version }}",outcome=~"ok|upstream_error"}[{{ .window }}]))
{{- end -}}

{{/* The share of them that failed. A version that never failed has no series of failures. */}}
{{- define "penstock.gate.errors" -}}
(
  sum(increase(penstock_requests_total{model="{{ .model }}",version="{{ .version }}",outcome="upstream_error"}[{{ .window }}]))
  or vector(0)
)
/ (sum(increase(penstock_requests_total{model="{{ .model }}",version="{{ .version }}",outcome=~"ok|upstream_error"}[{{ .window }}])) > 0)
{{- end -}}

{{/* The time to the first token that one streamed answer in twenty exceeds. Without one it is NaN, which no comparison lets through. */}}
{{- define "penstock.gate.ttft" -}}
histogram_quantile(0.95, sum by (le) (rate(penstock_ttft_milliseconds_bucket{model="{{ .model }}",version="{{ .version }}"}[{{ .window }}]))) >= 0
{{- end -}}

{{/* What an answer comes to, of `series`, over what the other version's does. */}}
{{- define "penstock.gate.ratio" -}}
(
  sum(increase({{ .series }}{model="{{ .model }}",version="{{ .version }}"{{ .more }}}[{{ .window }}]))
  / (sum(increase(penstock_requests_total{model="{{ .model }}",version="{{ .version }}",outcome="ok"}[{{ .window }}])) > 0)
)
/ (
  sum(increase({{ .series }}{model="{{ .model }}",version="{{ .stable }}"{{ .more }}}[{{ .window }}]))
  / (sum(increase(penstock_requests_total{model="{{ .model }}",version="{{ .stable }}",outcome="ok"}[{{ .window }}])) > 0)
  > 0
)
{{- end -}}
{{- define "penstock.gate.tokens" -}}
{{ include "penstock.gate.ratio" (merge (dict "series" "penstock_tokens_total" "more" ",kind=\"completion\"") .) }}
{{- end -}}
{{- define "penstock.gate.cost" -}}
{{ include "penstock.gate.ratio" (merge (dict "series" "penstock_cost_microdollars_total" "more" "") .) }}
{{- end -}}

{{/* Whether Penstock's own guard has taken the version back, on any gateway. */}}
{{- define "penstock.gate.guard" -}}
max(penstock_canary_state{model="{{ .model }}",version="{{ .version }}"}) == bool 2
{{- end -}}

{{/* A query that has no answer until there are so many requests to judge by. */}}
{{- define "penstock.gate" -}}
(
  {{- include (printf "penstock.gate.%s" .gate) . | nindent 2 }}
)
and on () {{ include "penstock.gate.requests" . }} >= {{ .minRequests }}
{{- end -}}
