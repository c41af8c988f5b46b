// Package podrefs lists the objects that a pod refers to and that its node must therefore be able to read: ConfigMaps,
// Secrets, claims and the service account. It is the one answer to the question "what does this pod need", used both
// for what is pushed to a node and for what a node may ask.
package podrefs

import (
	"iter"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Config is one reference of a pod to a ConfigMap or a Secret in the pod's namespace.
type Config struct {
	Secret bool // of a Secret, otherwise of a ConfigMap
	Name   string
	// Optional references let the pod start without the object.
	Optional bool
}

// VisitConfig calls visit for each reference of pod to a ConfigMap or Secret, the same object possibly more than once.
// It looks at volumes, projected volumes, all containers (init and ephemeral ones too) and pull secrets (spec 04 §4.2).
func VisitConfig(pod *corev1.Pod, visit func(Config)) {
	v := visitor(func(c Config) {
		if c.Name != "" && !strings.Contains(c.Name, "/") { // nothing of such a name can exist
			visit(c)
		}
	})
	spec := &pod.Spec
	for i := range spec.ImagePullSecrets {
		v.secret(spec.ImagePullSecrets[i].Name, nil)
	}
	for i := range spec.Volumes {
		v.volume(&spec.Volumes[i].VolumeSource)
	}
	for i := range spec.InitContainers {
		v.env(spec.InitContainers[i].EnvFrom, spec.InitContainers[i].Env)
	}
	for i := range spec.Containers {
		v.env(spec.Containers[i].EnvFrom, spec.Containers[i].Env)
	}
	for i := range spec.EphemeralContainers {
		v.env(spec.EphemeralContainers[i].EnvFrom, spec.EphemeralContainers[i].Env)
	}
}

type visitor func(Config)

func (v visitor) secret(name string, optional *bool) {
	v(Config{Secret: true, Name: name, Optional: optional != nil && *optional})
}

func (v visitor) configMap(name string, optional *bool) {
	v(Config{Name: name, Optional: optional != nil && *optional})
}

func (v visitor) secretRef(ref *corev1.LocalObjectReference) {
	if ref != nil {
		v.secret(ref.Name, nil)
	}
}

func (v visitor) volume(s *corev1.VolumeSource) {
	switch {
	case s.ConfigMap != nil:
		v.configMap(s.ConfigMap.Name, s.ConfigMap.Optional)
	case s.Secret != nil:
		v.secret(s.Secret.SecretName, s.Secret.Optional)
	case s.Projected != nil:
		for i := range s.Projected.Sources {
			p := &s.Projected.Sources[i]
			if p.ConfigMap != nil {
				v.configMap(p.ConfigMap.Name, p.ConfigMap.Optional)
			}
			if p.Secret != nil {
				v.secret(p.Secret.Name, p.Secret.Optional)
			}
		}
	case s.CSI != nil:
		v.secretRef(s.CSI.NodePublishSecretRef)
	case s.ISCSI != nil:
		v.secretRef(s.ISCSI.SecretRef)
	case s.RBD != nil:
		v.secretRef(s.RBD.SecretRef)
	case s.Cinder != nil:
		v.secretRef(s.Cinder.SecretRef)
	case s.CephFS != nil:
		v.secretRef(s.CephFS.SecretRef)
	case s.FlexVolume != nil:
		v.secretRef(s.FlexVolume.SecretRef)
	case s.ScaleIO != nil:
		v.secretRef(s.ScaleIO.SecretRef)
	case s.StorageOS != nil:
		v.secretRef(s.StorageOS.SecretRef)
	case s.AzureFile != nil:
		v.secret(s.AzureFile.SecretName, nil)
	}
}

func (v visitor) env(from []corev1.EnvFromSource, vars []corev1.EnvVar) {
	for i := range from {
		if r := from[i].ConfigMapRef; r != nil {
			v.configMap(r.Name, r.Optional)
		}
		if r := from[i].SecretRef; r != nil {
			v.secret(r.Name, r.Optional)
		}
	}
	for i := range vars {
		s := vars[i].ValueFrom
		if s == nil {
			continue
		}
		if r := s.ConfigMapKeyRef; r != nil {
			v.configMap(r.Name, r.Optional)
		}
		if r := s.SecretKeyRef; r != nil {
			v.secret(r.Name, r.Optional)
		}
	}
}

// Claims returns the names of the PersistentVolumeClaims of pod. A generic ephemeral volume has a claim named after the
// pod and the volume.
func Claims(pod *corev1.Pod) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range pod.Spec.Volumes {
			vol := &pod.Spec.Volumes[i]
			name := ""
			switch {
			case vol.PersistentVolumeClaim != nil:
				name = vol.PersistentVolumeClaim.ClaimName
			case vol.Ephemeral != nil:
				name = pod.Name + "-" + vol.Name
			}
			if name != "" && !yield(name) {
				return
			}
		}
	}
}

// VolumeSecrets returns namespace and name of each Secret that a node reads to mount pv.
func VolumeSecrets(pv *corev1.PersistentVolume) iter.Seq2[string, string] {
	return func(yield func(namespace, name string) bool) {
		s := &pv.Spec.PersistentVolumeSource
		var refs []*corev1.SecretReference
		switch {
		case s.CSI != nil:
			refs = []*corev1.SecretReference{s.CSI.NodeStageSecretRef, s.CSI.NodePublishSecretRef, s.CSI.NodeExpandSecretRef}
		case s.RBD != nil:
			refs = []*corev1.SecretReference{s.RBD.SecretRef}
		case s.ISCSI != nil:
			refs = []*corev1.SecretReference{s.ISCSI.SecretRef}
		case s.Cinder != nil:
			refs = []*corev1.SecretReference{s.Cinder.SecretRef}
		case s.CephFS != nil:
			refs = []*corev1.SecretReference{s.CephFS.SecretRef}
		case s.FlexVolume != nil:
			refs = []*corev1.SecretReference{s.FlexVolume.SecretRef}
		case s.ScaleIO != nil:
			refs = []*corev1.SecretReference{s.ScaleIO.SecretRef}
		case s.AzureFile != nil:
			ref := &corev1.SecretReference{Name: s.AzureFile.SecretName}
			if s.AzureFile.SecretNamespace != nil {
				ref.Namespace = *s.AzureFile.SecretNamespace
			}
			refs = []*corev1.SecretReference{ref}
		case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
			refs = []*corev1.SecretReference{{Namespace: s.StorageOS.SecretRef.Namespace, Name: s.StorageOS.SecretRef.Name}}
		}
		for _, ref := range refs {
			if ref == nil || ref.Name == "" {
				continue
			}
			namespace := ref.Namespace
			if namespace == "" && pv.Spec.ClaimRef != nil {
				namespace = pv.Spec.ClaimRef.Namespace
			}
			if !yield(namespace, ref.Name) {
				return
			}
		}
	}
}
