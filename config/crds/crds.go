// Package crds carries the manifests of our custom resource definitions, so
// that tests and tools install exactly what an operator installs with kubectl.
//
// The manifests are generated from pkg/apis by hack/generate.sh: one folder a
// group, one file a resource, named <api group>_<plural>.yaml. They accept
// every object that the clusters in the field hold.
package crds

import (
	"embed"
	"fmt"
	"io/fs"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:embed */*.yaml
var manifests embed.FS

// FS returns the manifests as files, <group>/<api group>_<plural>.yaml.
func FS() fs.FS {
	return manifests
}

// List returns the definitions in the order of their files. The caller owns
// the result.
func List() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	files, err := fs.Glob(manifests, "*/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("find manifests: %w", err)
	}
	list := make([]*apiextensionsv1.CustomResourceDefinition, 0, len(files))
	for _, file := range files {
		data, err := fs.ReadFile(manifests, file)
		if err != nil {
			return nil, fmt.Errorf("read manifest %s: %w", file, err)
		}
		crd := new(apiextensionsv1.CustomResourceDefinition)
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return nil, fmt.Errorf("parse manifest %s: %w", file, err)
		}
		list = append(list, crd)
	}
	return list, nil
}
