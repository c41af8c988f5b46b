package message

import (
	"fmt"
	"strings"
)

// Resource types: the second token of an object's path (spec 04 §2, spec 05).
const (
	TypePod                       = "pod"
	TypePodStatus                 = "podstatus"
	TypePodPatch                  = "podpatch"
	TypeNode                      = "node"
	TypeNodeStatus                = "nodestatus"
	TypeNodePatch                 = "nodepatch"
	TypeLease                     = "lease"
	TypeConfigMap                 = "configmap"
	TypeSecret                    = "secret"
	TypeServiceAccountToken       = "serviceaccounttoken"
	TypePersistentVolume          = "persistentvolume"
	TypePersistentVolumeClaim     = "persistentvolumeclaim"
	TypeVolumeAttachment          = "volumeattachment"
	TypeCertificateSigningRequest = "certificatesigningrequest"
	TypeEvent                     = "event"
	TypeDevice                    = "device"
	TypeDeviceModel               = "devicemodel"
	TypeServiceAccountAccess      = "serviceaccountaccess"
	TypeVolume                    = "volume"
	TypeRuleStatus                = "rulestatus"
)

// Resource is the path of an object: <namespace>/<type>/<name>, or <namespace>/<type> for a list. The namespace of a
// cluster-scoped object is NoNamespace or, in requests of older edges, "default" (spec 04 §1).
type Resource struct {
	Namespace string
	Type      string
	// Name is empty in the path of a list.
	Name string
}

// maxResourcePath bounds a path: three names of Kubernetes (253 each at most) and their separators.
const maxResourcePath = 3*253 + 2

// ParseResource parses the path of an object. Every token present must be non-empty.
func ParseResource(path string) (Resource, error) {
	if len(path) > maxResourcePath {
		return Resource{}, fmt.Errorf("resource path of %d bytes is longer than %d", len(path), maxResourcePath)
	}
	namespace, rest, ok := strings.Cut(path, "/")
	typ, name, named := strings.Cut(rest, "/")
	if !ok || namespace == "" || typ == "" || (named && name == "") || strings.Contains(name, "/") {
		return Resource{}, fmt.Errorf("resource path %q is not <namespace>/<type>[/<name>]", path)
	}
	return Resource{Namespace: namespace, Type: typ, Name: name}, nil
}

// String returns the path.
func (r Resource) String() string {
	if r.Name == "" {
		return r.Namespace + "/" + r.Type
	}
	return r.Namespace + "/" + r.Type + "/" + r.Name
}
