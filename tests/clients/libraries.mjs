// Segment's and PostHog's libraries for Node, unchanged but for their host.
//
//   node libraries.mjs HOST KEY WHEN

import { Analytics } from '@segment/analytics-node'
import { PostHog } from 'posthog-node'

const [host, key, when] = process.argv.slice(2)
const timestamp = new Date(when)

const segment = new Analytics({ writeKey: key, host })
segment.on('error', (error) => {
  console.error(error)
  process.exitCode = 1
})
for (let i = 0; i < 40; i++) segment.track({ userId: `segment-node-${i}`, event: 'signup', properties: { plan: 'pro' }, timestamp })
segment.identify({ userId: 'segment-node-0', traits: { plan: 'max' } })
segment.page({ anonymousId: 'segment-node-page', name: 'Docs', timestamp })
await segment.closeAndFlush()

const posthog = new PostHog(key, { host })
posthog.on('error', (error) => {
  console.error(error)
  process.exitCode = 1
})
for (let i = 0; i < 40; i++) posthog.capture({ distinctId: `posthog-node-${i}`, event: 'signup', properties: { plan: 'pro' }, timestamp })
posthog.identify({ distinctId: 'posthog-node-0', properties: { plan: 'max' } })
await posthog.shutdown()
