package downstream

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// config is a ConfigMap or Secret that served pods refer to.
type config struct {
	users map[string]users // by node

	// What the metadata watch shows; the version is empty while there is no such object.
	uid     types.UID
	version string

	content *content // newest version read, nil if none
}

// users counts the pods of one node that refer to an object.
type users struct {
	total, required int32
}

// stale reports that the watch has shown a version newer than the content.
func (c *config) stale() bool {
	return c.version != "" && (c.content == nil || c.content.uid != string(c.uid) || older(c.content.version, c.version))
}

// newest is the state of the object for one of its users. While a newer version is being read, the older one is still
// the newest known.
func (c *config) newest(synced bool) (desired.Object, desired.State) {
	switch {
	case c.content != nil:
		return c.content, desired.Present
	case c.version != "" || !synced:
		return nil, desired.Pending
	}
	return nil, desired.Absent
}

// useLocked counts one reference of a pod on a node.
func (v *View) useLocked(e *effects, nodeName string, r ref) {
	c := v.configs[r.key]
	if c == nil {
		c = &config{users: make(map[string]users, 1)}
		v.configs[r.key] = c
		obj, exists, err := v.metadata(r.key).GetStore().GetByKey(r.key.Namespace + "/" + r.key.Name)
		if m, ok := obj.(*metav1.PartialObjectMetadata); ok && exists && err == nil {
			c.uid, c.version = m.UID, m.ResourceVersion
			e.read = append(e.read, r.key)
		}
	}
	u := c.users[nodeName]
	u.total++
	if r.required {
		u.required++
	}
	c.users[nodeName] = u
	if u.total == 1 {
		e.notify(nodeName, r.key)
	}
}

// releaseLocked takes one reference back. With the last one the content is forgotten.
func (v *View) releaseLocked(e *effects, nodeName string, r ref) {
	c := v.configs[r.key]
	u := c.users[nodeName]
	u.total--
	if r.required {
		u.required--
	}
	if u.total > 0 {
		c.users[nodeName] = u
		return
	}
	delete(c.users, nodeName)
	e.notify(nodeName, r.key)
	if len(c.users) == 0 {
		delete(v.configs, r.key)
	}
}

// setMetadataLocked takes a version that the watch shows.
func (v *View) setMetadataLocked(e *effects, key desired.Key, m *metav1.ObjectMeta) {
	c := v.configs[key]
	if c == nil || older(m.ResourceVersion, c.version) {
		return
	}
	c.uid, c.version = m.UID, m.ResourceVersion
	if c.stale() {
		e.read = append(e.read, key)
	}
}

func (v *View) deleteMetadataLocked(e *effects, key desired.Key, m *metav1.ObjectMeta) {
	c := v.configs[key]
	if c == nil || (c.version != "" && c.uid != m.UID) { // another UID: a successor, already seen
		return
	}
	c.uid, c.version, c.content = "", "", nil
	v.notifyUsersLocked(e, key, c)
}

// setContentLocked takes what was read. It reports false if a newer version is known to exist.
func (v *View) setContentLocked(e *effects, key desired.Key, read *content) bool {
	c := v.configs[key]
	if c == nil || c.version == "" { // not wanted any more; or deleted: if it exists again, the watch will show it
		return true
	}
	if c.content != nil && c.content.uid == read.uid && !older(c.content.version, read.version) {
		return !c.stale()
	}
	if older(read.version, c.version) && read.uid != string(c.uid) { // a predecessor, gone meanwhile
		return false
	}
	c.content = read
	if !older(read.version, c.version) {
		c.uid, c.version = types.UID(read.uid), read.version
	}
	v.notifyUsersLocked(e, key, c)
	return !c.stale()
}

func (v *View) notifyUsersLocked(e *effects, key desired.Key, c *config) {
	for nodeName := range c.users {
		e.notify(nodeName, key)
	}
}
