// Package e2e tests the localcluster executable from outside, as its users meet it. It holds nothing but tests.
package e2e
