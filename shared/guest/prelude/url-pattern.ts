/** `URLPattern`: a maintained implementation, which asks for nothing but URL and RegExp. */
import { URLPattern } from 'urlpattern-polyfill/urlpattern'
import { nameAs, publish, tag } from './webidl.ts'

export function installUrlPattern(): void {
  nameAs(URLPattern, 'URLPattern')
  tag(URLPattern.prototype, 'URLPattern')
  publish('URLPattern', URLPattern)
}
