package edgesim

import (
	"cmp"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// reference is a ConfigMap or Secret that a pod needs.
type reference struct {
	typ, name string
	optional  bool
}

// references returns what a pod refers to, each once; one is optional only if every reference to it is.
func references(spec *corev1.PodSpec) []reference {
	var refs []reference
	add := func(typ, name string, optional *bool) {
		if name == "" {
			return
		}
		r := reference{typ: typ, name: name, optional: optional != nil && *optional}
		for i := range refs {
			if refs[i].typ == typ && refs[i].name == name {
				refs[i].optional = refs[i].optional && r.optional
				return
			}
		}
		refs = append(refs, r)
	}
	for i := range spec.Volumes {
		addVolume(&spec.Volumes[i], add)
	}
	for i := range spec.InitContainers {
		addEnv(spec.InitContainers[i].Env, spec.InitContainers[i].EnvFrom, add)
	}
	for i := range spec.Containers {
		addEnv(spec.Containers[i].Env, spec.Containers[i].EnvFrom, add)
	}
	for i := range spec.EphemeralContainers {
		addEnv(spec.EphemeralContainers[i].Env, spec.EphemeralContainers[i].EnvFrom, add)
	}
	missing := true // pods run without their pull secrets
	for _, s := range spec.ImagePullSecrets {
		add(message.TypeSecret, s.Name, &missing)
	}
	return refs
}

func addVolume(v *corev1.Volume, add func(typ, name string, optional *bool)) {
	switch {
	case v.ConfigMap != nil:
		add(message.TypeConfigMap, v.ConfigMap.Name, v.ConfigMap.Optional)
	case v.Secret != nil:
		add(message.TypeSecret, v.Secret.SecretName, v.Secret.Optional)
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		add(message.TypeSecret, v.CSI.NodePublishSecretRef.Name, nil)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(message.TypeConfigMap, s.ConfigMap.Name, s.ConfigMap.Optional)
			}
			if s.Secret != nil {
				add(message.TypeSecret, s.Secret.Name, s.Secret.Optional)
			}
		}
	}
}

func addEnv(env []corev1.EnvVar, from []corev1.EnvFromSource, add func(typ, name string, optional *bool)) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add(message.TypeConfigMap, f.ConfigMapRef.Name, f.ConfigMapRef.Optional)
		}
		if f.SecretRef != nil {
			add(message.TypeSecret, f.SecretRef.Name, f.SecretRef.Optional)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(message.TypeConfigMap, r.Name, r.Optional)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(message.TypeSecret, r.Name, r.Optional)
		}
	}
}

// fetch asks for what the pod needs and the store does not have; updates come as pushes later (spec 04 §4.2). It ends in
// ready, or is repeated with backoff. A pod that runs already gets its tokens, and whatever else the store lost.
func (k *kubelet) fetch(p *pod) {
	if p.awaited > 0 {
		return
	}
	p.failed = false
	p.awaited = 1 // until all requests are sent
	for _, r := range references(&p.object.Spec) {
		key := p.object.Namespace + "/" + r.typ + "/" + r.name
		if _, ok := k.c.n.rec.row(key); ok {
			continue
		}
		p.awaited++
		k.c.request(message.OpQuery, key, nil, remote, func(m *message.Message, err error) {
			k.fetched(p, fetchFailed(m, err) && !r.optional)
		})
	}
	if !k.c.n.opts.SkipTokens {
		k.fetchTokens(p)
	}
	k.fetched(p, false)
}

// fetchFailed says whether an answer to a query leaves the kubelet without a usable object (spec 04 §3.6).
func fetchFailed(m *message.Message, err error) bool {
	if err != nil || m.Route.Operation == message.OpError {
		return true
	}
	return parseMeta(m.Content).Metadata.UID == "" // the wrapper of an error, or an empty object
}

// fetchTokens asks for the service account tokens of the pod's projected volumes.
func (k *kubelet) fetchTokens(p *pod) {
	account := cmp.Or(p.object.Spec.ServiceAccountName, "default")
	for i := range p.object.Spec.Volumes {
		v := &p.object.Spec.Volumes[i]
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				k.fetchToken(p, account, s.ServiceAccountToken)
			}
		}
	}
}

func (k *kubelet) fetchToken(p *pod, account string, want *corev1.ServiceAccountTokenProjection) {
	id := want.Audience + "\x00" + want.Path
	if p.tokens[id] {
		return
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: want.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			Kind: "Pod", APIVersion: "v1", Name: p.object.Name, UID: p.uid,
		},
	}}
	if want.Audience != "" {
		request.Spec.Audiences = []string{want.Audience}
	}
	p.awaited++
	key := p.object.Namespace + "/" + message.TypeServiceAccountToken + "/" + account
	k.c.request(message.OpQuery, key, mustMarshal(request), remote, func(m *message.Message, err error) {
		var answer authenticationv1.TokenRequest
		ok := err == nil && m.Route.Operation == message.OpResponse && m.DecodeContent(&answer) == nil && answer.Status.Token != ""
		if ok {
			if p.tokens == nil {
				p.tokens = make(map[string]bool)
			}
			p.tokens[id] = true
		}
		k.fetched(p, !ok)
	})
}

// fetched counts one answer; the last one decides.
func (k *kubelet) fetched(p *pod, failed bool) {
	if failed {
		k.c.n.rec.count(func(c *Counters) { c.FetchErrors++ })
		p.failed = true
	}
	p.awaited--
	if p.awaited > 0 || k.pods[p.uid] != p || p.stage >= stopping {
		return
	}
	if !p.failed {
		if p.stage == starting {
			k.ready(p)
		}
		return
	}
	t := &k.c.n.opts.Timing
	p.retry = nextBackoff(p.retry, t.FetchMin, t.FetchMax)
	k.c.after(p.retry, func() {
		if k.pods[p.uid] == p && p.stage < stopping {
			k.fetch(p)
		}
	})
}
