// Package downstream knows what each edge node should hold of Nodes, Pods, ConfigMaps and Secrets, and tells the
// delivery engine when that changes.
//
// The model. A node holds its own Node object, the pods bound to it by spec.nodeName, and the ConfigMaps and Secrets
// that those pods refer to. Nodes are of three classes: edge (the Node carries the edge role label), cloud (it does
// not), and unknown (there is no Node, not yet or no more). Pods of edge and of unknown nodes are served, so that a
// pod's deletion reaches its node also when the Node went first. A cloud node is given nothing, but its pods are
// reported as Pending, also after its Node went, so that removing a label by mistake doesn't kill what runs there.
//
// The caches. Nodes and Pods come from shared informers, whose transforms (set by New) keep of cloud nodes and their
// pods only a stub. When a node turns from cloud to edge, its pods are stubs and are read live once. ConfigMaps and
// Secrets are watched as metadata only: the content of an object is read when a served pod refers to it and each time
// the watch shows a new version, and it is forgotten with the last reference. One read and one encoding serve all nodes.
//
// Guarantees: Changed is called after the change is visible through the View. The version that the View shows of an
// object never goes back. An object that a node may no longer hold leaves Keys at once.
//
// Ownership: View.mu guards all state; it is never held during a call to the apiserver or to the delivery engine. The
// goroutines are those of the informers (handlers) and the readers that Run owns.
package downstream
